package android.graphics;

import org.jetbrains.annotations.Nullable;

public class Canvas {
    public native void drawBitmap(Bitmap bitmap, @Nullable Rect source, Rect target, @Nullable Paint paint);
    public native void drawLine(float x0, float y0, float x1, float y1, Paint paint);
    public native void drawRect(float left, float top, float right, float bottom, Paint paint);
    public native boolean clipRect(int left, int top, int right, int bottom);
    public native int save();
    public native void restore();
}
