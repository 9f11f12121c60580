package org.tensorflow.lite;

public final class Interpreter implements InterpreterApi {
    public static class Options {
        public Options() {}
        public native Options setNumThreads(int threads);
        public native Options setUseXNNPACK(boolean use);
        public native Options addDelegate(Delegate delegate);
    }
    public Interpreter(java.nio.ByteBuffer model, Options options) {}
    public native int getInputTensorCount();
    public native int getOutputTensorCount();
    public native Tensor getInputTensor(int index);
    public native Tensor getOutputTensor(int index);
    public native void runForMultipleInputsOutputs(Object[] inputs, java.util.Map<Integer, Object> outputs);
    public native void close();
}
