package android.media;

public class ExifInterface {
    public static final String TAG_ORIENTATION = "Orientation";
    public ExifInterface(java.io.InputStream stream) throws java.io.IOException {}
    public native int getAttributeInt(String tag, int otherwise);
}
