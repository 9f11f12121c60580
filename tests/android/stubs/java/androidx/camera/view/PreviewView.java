package androidx.camera.view;

public final class PreviewView extends android.widget.FrameLayout {
    public PreviewView(android.content.Context context) { super(context); }
    public native androidx.camera.core.Preview.SurfaceProvider getSurfaceProvider();
    public native ImplementationMode getImplementationMode();
    public native void setImplementationMode(ImplementationMode mode);
    public native ScaleType getScaleType();
    public native void setScaleType(ScaleType type);
    public enum ImplementationMode { COMPATIBLE }
    public enum ScaleType { FIT_CENTER }
}
