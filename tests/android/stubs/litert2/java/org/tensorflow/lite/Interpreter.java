package org.tensorflow.lite;

public final class Interpreter implements InterpreterApi {
    public static class Options {
        private boolean xnnpack = true;
        public Options() {}
        public Options setNumThreads(int threads) { return this; }
        public Options setUseXNNPACK(boolean use) {
            xnnpack = use;
            return this;
        }
    }
    public Interpreter(java.nio.ByteBuffer model, Options options) {
        toy = new Toy(model);
        if (options.xnnpack) Toy.log(4, 4, "TfLiteXNNPackDelegate");
    }
    private final Toy toy;
    public int getInputTensorCount() { return toy.inputs.size(); }
    public int getOutputTensorCount() { return toy.outputs.size(); }
    public Tensor getInputTensor(int index) { return toy.inputs.get(index); }
    public Tensor getOutputTensor(int index) { return toy.outputs.get(index); }
    public void runForMultipleInputsOutputs(Object[] inputs, java.util.Map<Integer, Object> outputs) { toy.run(inputs, outputs); }
    public void close() {}
}
