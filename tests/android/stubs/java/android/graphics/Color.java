package android.graphics;

public class Color {
    private Color() {}
    public static final int BLACK = 0xFF000000;
    public static final int WHITE = 0xFFFFFFFF;
}
