package android.util;

public final class Log {
    private Log() {}
    /** The log of these stubs is the property phone.log. */
    public static int i(@org.jetbrains.annotations.Nullable String tag, String message) {
        System.setProperty("phone.log", System.getProperty("phone.log", "") + message + "\n");
        return 0;
    }
}
