package androidx.core.view;

public class WindowInsetsCompat {
    private WindowInsetsCompat() {}
    public static final WindowInsetsCompat CONSUMED = null;
    public native androidx.core.graphics.Insets getInsets(int types);
    public static final class Type {
        private Type() {}
        public static native int systemBars();
        public static native int displayCutout();
        public static native int ime();
    }
}
