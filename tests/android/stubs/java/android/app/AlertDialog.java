package android.app;

public class AlertDialog extends Dialog {
    protected AlertDialog() {}
    public static class Builder {
        public Builder(android.content.Context context) {}
        public native Builder setTitle(int title);
        public native Builder setMessage(int message);
        public native Builder setPositiveButton(int text, android.content.DialogInterface.OnClickListener listener);
        public native Builder setNegativeButton(int text, android.content.DialogInterface.OnClickListener listener);
        public native AlertDialog show();
    }
}
