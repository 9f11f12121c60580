package com.google.android.material.button;

public class MaterialButtonToggleGroup extends android.widget.LinearLayout {
    public MaterialButtonToggleGroup(android.content.Context context) { super(context); }
    public interface OnButtonCheckedListener { void onButtonChecked(MaterialButtonToggleGroup group, int checkedId, boolean isChecked); }
    public native void addOnButtonCheckedListener(OnButtonCheckedListener listener);
    public native int getCheckedButtonId();
}
