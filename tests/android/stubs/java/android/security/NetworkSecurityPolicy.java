package android.security;

import org.jetbrains.annotations.Nullable;

public class NetworkSecurityPolicy {
    NetworkSecurityPolicy() {}
    public static native NetworkSecurityPolicy getInstance();
    public native boolean isCleartextTrafficPermitted(@Nullable String host);
}
