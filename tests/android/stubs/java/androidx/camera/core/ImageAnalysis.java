package androidx.camera.core;

public final class ImageAnalysis extends UseCase {
    private ImageAnalysis() {}
    public static final int STRATEGY_KEEP_ONLY_LATEST = 0;
    public static final int OUTPUT_IMAGE_FORMAT_YUV_420_888 = 1;
    public native int getTargetRotation();
    public native void setTargetRotation(int rotation);
    public native void setAnalyzer(java.util.concurrent.Executor executor, Analyzer analyzer);
    public interface Analyzer { void analyze(ImageProxy image); }
    public static final class Builder {
        public Builder() {}
        public native Builder setBackpressureStrategy(int strategy);
        public native Builder setOutputImageFormat(int format);
        public native ImageAnalysis build();
    }
}
