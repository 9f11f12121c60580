package android.os;

import org.jetbrains.annotations.Nullable;

public class BaseBundle {
    public native java.util.Set<String> keySet();
    public native @Nullable Object get(String key);
}
