package android.content;

import org.jetbrains.annotations.Nullable;

public class Intent {
    public static final String ACTION_BATTERY_CHANGED = "android.intent.action.BATTERY_CHANGED";
    public static final String ACTION_SEND = "android.intent.action.SEND";
    public static final String EXTRA_STREAM = "android.intent.extra.STREAM";
    public static final int FLAG_GRANT_READ_URI_PERMISSION = 1;
    public Intent(@Nullable String action) {}
    public static native Intent createChooser(@Nullable Intent target, @Nullable CharSequence title);
    public native Intent setType(@Nullable String type);
    public native Intent putExtra(String name, @Nullable android.os.Parcelable value);
    public native Intent addFlags(int flags);
    public native @Nullable android.os.Bundle getExtras();
    public native int getIntExtra(String name, int otherwise);
}
