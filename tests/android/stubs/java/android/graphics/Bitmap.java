package android.graphics;

public final class Bitmap {
    public enum Config { ARGB_8888 }
    public static native Bitmap createBitmap(int[] colours, int width, int height, Config config);
    public native int getWidth();
    public native int getHeight();
    public native void getPixels(int[] pixels, int offset, int stride, int x, int y, int width, int height);
    public native void recycle();
}
