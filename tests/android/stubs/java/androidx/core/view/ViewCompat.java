package androidx.core.view;

import org.jetbrains.annotations.Nullable;

public class ViewCompat {
    private ViewCompat() {}
    public static native void setOnApplyWindowInsetsListener(android.view.View view, @Nullable OnApplyWindowInsetsListener listener);
}
