package org.tensorflow.lite;

public interface InterpreterApi extends AutoCloseable {
    int getInputTensorCount();
    int getOutputTensorCount();
    Tensor getInputTensor(int index);
    Tensor getOutputTensor(int index);
    void runForMultipleInputsOutputs(Object[] inputs, java.util.Map<Integer, Object> outputs);
    void close();
}
