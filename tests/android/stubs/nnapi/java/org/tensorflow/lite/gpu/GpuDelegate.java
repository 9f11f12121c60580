package org.tensorflow.lite.gpu;

public class GpuDelegate implements org.tensorflow.lite.Delegate { public GpuDelegate() {} public native long getNativeHandle(); public void close() { System.setProperty("phone.closed", "delegate"); } }
