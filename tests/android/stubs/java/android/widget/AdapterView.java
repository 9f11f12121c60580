package android.widget;

import org.jetbrains.annotations.Nullable;

public abstract class AdapterView<T extends Adapter> extends android.view.ViewGroup {
    public AdapterView(android.content.Context context) { super(context); }
    public interface OnItemSelectedListener {
        void onItemSelected(AdapterView<?> parent, android.view.View view, int position, long id);
        void onNothingSelected(AdapterView<?> parent);
    }
    public abstract T getAdapter();
    public abstract void setAdapter(T adapter);
    public abstract void setSelection(int position);
    public native int getSelectedItemPosition();
    public final native @Nullable OnItemSelectedListener getOnItemSelectedListener();
    public native void setOnItemSelectedListener(@Nullable OnItemSelectedListener listener);
}
