package android.widget;

public class SeekBar extends AbsSeekBar {
    public SeekBar(android.content.Context context) { super(context); }
    public interface OnSeekBarChangeListener {
        void onProgressChanged(SeekBar bar, int progress, boolean fromUser);
        void onStartTrackingTouch(SeekBar bar);
        void onStopTrackingTouch(SeekBar bar);
    }
    public native void setOnSeekBarChangeListener(OnSeekBarChangeListener listener);
}
