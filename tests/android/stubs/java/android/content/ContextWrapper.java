package android.content;

import org.jetbrains.annotations.Nullable;

public class ContextWrapper extends Context {
    public ContextWrapper(Context base) {}
    public native Context getApplicationContext();
    public native android.content.res.AssetManager getAssets();
    public native ContentResolver getContentResolver();
    @Deprecated public native java.io.File[] getExternalMediaDirs();
    public native java.io.File getCacheDir();
    public native java.io.File getFilesDir();
    public native void startActivity(Intent intent);
    public native java.io.File getNoBackupFilesDir();
    public native SharedPreferences getSharedPreferences(String name, int mode);
    public native android.content.pm.PackageManager getPackageManager();
    public native String getPackageName();
    public native android.content.res.Resources getResources();
    public native int checkSelfPermission(String permission);
    public native @Nullable Intent registerReceiver(@Nullable BroadcastReceiver receiver, IntentFilter filter);
}
