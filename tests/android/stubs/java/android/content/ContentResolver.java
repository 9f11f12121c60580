package android.content;

import org.jetbrains.annotations.Nullable;

public abstract class ContentResolver {
    public final native @Nullable java.io.InputStream openInputStream(android.net.Uri uri) throws java.io.FileNotFoundException;
}
