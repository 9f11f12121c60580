package android.app;

import org.jetbrains.annotations.Nullable;

public class Activity extends android.view.ContextThemeWrapper {
    public Activity() {}
    protected native void onCreate(@Nullable android.os.Bundle savedInstanceState);
    protected native void onResume();
    protected native void onPause();
    protected native void onDestroy();
    public native void setContentView(int layout);
    public native void setContentView(android.view.View view);
    public native <T extends android.view.View> T findViewById(int id);
    public native android.view.Window getWindow();
    public native android.content.Intent getIntent();
    public final native void runOnUiThread(Runnable action);
    public native void finish();
}
