package org.tensorflow.lite;

public final class Interpreter implements InterpreterApi {
    public static class Options {
        private final java.util.List<Delegate> delegates = new java.util.ArrayList<>();
        public Options() {}
        public Options setNumThreads(int threads) { return this; }
        public Options setUseXNNPACK(boolean use) { return this; }
        public Options addDelegate(Delegate delegate) {
            delegates.add(delegate);
            return this;
        }
    }
    /** As in LiteRT 1.4: a delegate that takes nothing says nothing, and XNNPACK takes what is left. */
    public Interpreter(java.nio.ByteBuffer model, Options options) {
        toy = new Toy(model);
        int left = 4;
        for (Delegate delegate : options.delegates) {
            boolean gpu = delegate.getClass().getSimpleName().startsWith("Gpu");
            int taken = Integer.getInteger(gpu ? "phone.GPU" : "phone.NNAPI", 0);
            if (taken > 0) Toy.log(taken, left, gpu ? "TfLiteGpuDelegateV2" : "TfLiteNnapiDelegate");
            left -= taken;
        }
        if (left > 0) Toy.log(left, left, "TfLiteXNNPackDelegate");
    }
    private final Toy toy;
    public int getInputTensorCount() { return toy.inputs.size(); }
    public int getOutputTensorCount() { return toy.outputs.size(); }
    public Tensor getInputTensor(int index) { return toy.inputs.get(index); }
    public Tensor getOutputTensor(int index) { return toy.outputs.get(index); }
    public void runForMultipleInputsOutputs(Object[] inputs, java.util.Map<Integer, Object> outputs) { toy.run(inputs, outputs); }
    public void close() {}
}
