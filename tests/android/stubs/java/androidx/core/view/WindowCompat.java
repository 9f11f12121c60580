package androidx.core.view;

public final class WindowCompat { private WindowCompat() {} public static native void enableEdgeToEdge(android.view.Window window); }
