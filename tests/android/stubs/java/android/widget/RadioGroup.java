package android.widget;

public class RadioGroup extends LinearLayout {
    public RadioGroup(android.content.Context context) { super(context); }
    public interface OnCheckedChangeListener { void onCheckedChanged(RadioGroup group, int checked); }
    public native int getCheckedRadioButtonId();
    public native void setOnCheckedChangeListener(OnCheckedChangeListener listener);
}
