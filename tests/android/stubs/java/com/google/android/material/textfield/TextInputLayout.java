package com.google.android.material.textfield;

import org.jetbrains.annotations.Nullable;

public class TextInputLayout extends android.widget.LinearLayout {
    public TextInputLayout(android.content.Context context) { super(context); }
    public native @Nullable CharSequence getHint();
    public native void setHint(@Nullable CharSequence hint);
}
