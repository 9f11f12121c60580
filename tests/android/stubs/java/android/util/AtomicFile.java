package android.util;

import org.jetbrains.annotations.Nullable;

public class AtomicFile {
    public AtomicFile(java.io.File base) {}
    public native void delete();
    public native byte[] readFully() throws java.io.IOException;
    public native java.io.FileOutputStream startWrite() throws java.io.IOException;
    public native void finishWrite(@Nullable java.io.FileOutputStream stream);
    public native void failWrite(@Nullable java.io.FileOutputStream stream);
}
