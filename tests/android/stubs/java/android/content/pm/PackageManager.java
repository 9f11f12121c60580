package android.content.pm;

public abstract class PackageManager {
    public static final int PERMISSION_GRANTED = 0;
    public static class NameNotFoundException extends Exception { public NameNotFoundException() {} }
    public abstract PackageInfo getPackageInfo(String name, int flags) throws NameNotFoundException;
}
