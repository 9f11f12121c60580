package org.tensorflow.lite.nnapi;

public class NnApiDelegate implements org.tensorflow.lite.Delegate, AutoCloseable {
    public static final class Options {
        public Options() {}
        public Options setUseNnapiCpu(boolean use) { return this; }
    }
    public NnApiDelegate(Options options) {}
    public native long getNativeHandle();
    public void close() { System.setProperty("phone.closed", "delegate"); }
}
