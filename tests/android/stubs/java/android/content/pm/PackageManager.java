package android.content.pm;

public abstract class PackageManager {
    public static final int PERMISSION_GRANTED = 0;
    public static final String FEATURE_CAMERA = "android.hardware.camera";
    public static final String FEATURE_CAMERA_FRONT = "android.hardware.camera.front";
    public static class NameNotFoundException extends Exception { public NameNotFoundException() {} }
    public abstract PackageInfo getPackageInfo(String name, int flags) throws NameNotFoundException;
    public abstract boolean hasSystemFeature(String name);
}
