package org.tensorflow.lite;

public final class TensorFlowLite { private TensorFlowLite() {} public static native String runtimeVersion(); }
