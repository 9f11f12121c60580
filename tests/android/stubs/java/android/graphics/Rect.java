package android.graphics;

public final class Rect {
    public int left;
    public int top;
    public int right;
    public int bottom;
    public Rect(int left, int top, int right, int bottom) {}
    public native int width();
    public native int height();
    public native void offset(int x, int y);
}
