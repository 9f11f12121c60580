package android.widget;

import org.jetbrains.annotations.Nullable;

public class AutoCompleteTextView extends EditText {
    public AutoCompleteTextView(android.content.Context context) { super(context); }
    public native void setText(CharSequence text, boolean filter);
    public native void setOnItemClickListener(@Nullable AdapterView.OnItemClickListener listener);
}
