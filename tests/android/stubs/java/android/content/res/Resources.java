package android.content.res;

public class Resources {
    public native android.util.DisplayMetrics getDisplayMetrics();
    public native String getQuantityString(int id, int quantity, Object... values);
}
