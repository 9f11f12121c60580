package androidx.core.content;

public class FileProvider extends android.content.ContentProvider {
    public FileProvider() {}
    public static native android.net.Uri getUriForFile(android.content.Context context, String authority, java.io.File file);
}
