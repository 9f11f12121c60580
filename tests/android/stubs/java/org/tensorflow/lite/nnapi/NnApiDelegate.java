package org.tensorflow.lite.nnapi;

public class NnApiDelegate implements org.tensorflow.lite.Delegate, AutoCloseable {
    public static final class Options {
        public Options() {}
        public native Options setUseNnapiCpu(boolean use);
    }
    public NnApiDelegate(Options options) {}
    public native long getNativeHandle();
    public native void close();
}
