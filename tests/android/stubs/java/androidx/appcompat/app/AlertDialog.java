package androidx.appcompat.app;

import android.content.DialogInterface;
import org.jetbrains.annotations.Nullable;

public class AlertDialog {
    private AlertDialog() {}
    public static class Builder {
        public Builder(android.content.Context context) {}
        public native Builder setTitle(int title);
        public native Builder setMessage(int message);
        public native Builder setPositiveButton(int text, DialogInterface.OnClickListener listener);
        public native Builder setNegativeButton(int text, DialogInterface.OnClickListener listener);
        public native AlertDialog show();
    }
}
