package androidx.camera.core;

import org.jetbrains.annotations.Nullable;

public final class Preview extends UseCase {
    private Preview() {}
    public native void setSurfaceProvider(@Nullable SurfaceProvider provider);
    public interface SurfaceProvider {}
    public static final class Builder {
        public Builder() {}
        public native Preview build();
    }
}
