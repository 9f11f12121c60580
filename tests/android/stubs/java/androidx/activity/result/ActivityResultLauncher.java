package androidx.activity.result;

public abstract class ActivityResultLauncher<I> { public ActivityResultLauncher() {} public native void launch(I input); }
