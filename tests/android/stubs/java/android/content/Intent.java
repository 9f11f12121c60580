package android.content;

import org.jetbrains.annotations.Nullable;

public class Intent {
    public static final String ACTION_BATTERY_CHANGED = "android.intent.action.BATTERY_CHANGED";
    public native @Nullable android.os.Bundle getExtras();
    public native int getIntExtra(String name, int otherwise);
}
