package com.google.android.material.textfield;

public class MaterialAutoCompleteTextView extends android.widget.AutoCompleteTextView {
    public MaterialAutoCompleteTextView(android.content.Context context) { super(context); }
    public native void setSimpleItems(String[] items);
}
