package android.graphics;

import org.jetbrains.annotations.Nullable;

public final class Bitmap {
    public enum Config { ARGB_8888 }
    public enum CompressFormat { PNG }
    public native boolean compress(CompressFormat format, int quality, java.io.OutputStream stream);
    public static native Bitmap createBitmap(int[] colours, int width, int height, Config config);
    public native int getWidth();
    public native int getHeight();
    public native void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height);
    public native @Nullable Config getConfig();
    public native int getRowBytes();
    public native int getByteCount();
    public native void copyPixelsToBuffer(java.nio.Buffer destination);
    public native void recycle();
}
