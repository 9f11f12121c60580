package org.tensorflow.lite;

public interface Tensor {
    DataType dataType();
    int numBytes();
    int[] shape();
    String name();
    QuantizationParams quantizationParams();
    class QuantizationParams {
        public QuantizationParams(float scale, int zeroPoint) {}
        public native float getScale();
        public native int getZeroPoint();
    }
}
