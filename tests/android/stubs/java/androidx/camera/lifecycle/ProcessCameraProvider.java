package androidx.camera.lifecycle;

public final class ProcessCameraProvider {
    private ProcessCameraProvider() {}
    public static native com.google.common.util.concurrent.ListenableFuture<ProcessCameraProvider> getInstance(android.content.Context context);
    public native boolean hasCamera(androidx.camera.core.CameraSelector selector) throws androidx.camera.core.CameraInfoUnavailableException;
    public native androidx.camera.core.Camera bindToLifecycle(
        androidx.lifecycle.LifecycleOwner owner, androidx.camera.core.CameraSelector selector, androidx.camera.core.UseCase... useCases);
    public native void unbindAll();
}
