package android.graphics;

public class Paint {
    public enum Style { STROKE }
    public Paint() {}
    public native Style getStyle();
    public native void setStyle(Style style);
    public final native boolean isFilterBitmap();
    public native void setFilterBitmap(boolean on);
    public native float getStrokeWidth();
    public native void setStrokeWidth(float width);
    public native int getColor();
    public native void setColor(int colour);
}
