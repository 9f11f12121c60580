package android.util;

public final class Log { private Log() {} public static native int i(@org.jetbrains.annotations.Nullable String tag, String message); }
