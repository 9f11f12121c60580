package android.widget;

public class CompoundButton extends Button {
    public CompoundButton(android.content.Context context) { super(context); }
    public interface OnCheckedChangeListener { void onCheckedChanged(CompoundButton button, boolean checked); }
    public native boolean isChecked();
    public native void setChecked(boolean checked);
    public native void setOnCheckedChangeListener(OnCheckedChangeListener listener);
}
