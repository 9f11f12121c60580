package android.graphics;

import org.jetbrains.annotations.Nullable;

public class BitmapFactory {
    public static class Options {
        public boolean inJustDecodeBounds;
        public Bitmap.Config inPreferredConfig;
        public boolean inPremultiplied;
        public int inSampleSize;
        public int outWidth;
        public int outHeight;
        public Options() {}
    }
    public static native @Nullable Bitmap decodeByteArray(byte[] data, int offset, int length, @Nullable Options options);
}
