package android.content;

import org.jetbrains.annotations.Nullable;

public abstract class Context {
    public static final int MODE_PRIVATE = 0;
    public Context() {}
    public abstract Context getApplicationContext();
    public abstract android.content.res.AssetManager getAssets();
    public abstract ContentResolver getContentResolver();
    @Deprecated public abstract java.io.File[] getExternalMediaDirs();
    public abstract java.io.File getCacheDir();
    public abstract java.io.File getFilesDir();
    public abstract void startActivity(Intent intent);
    public abstract java.io.File getNoBackupFilesDir();
    public abstract SharedPreferences getSharedPreferences(String name, int mode);
    public abstract android.content.pm.PackageManager getPackageManager();
    public abstract String getPackageName();
    public abstract android.content.res.Resources getResources();
    public abstract int checkSelfPermission(String permission);
    public abstract @Nullable Intent registerReceiver(@Nullable BroadcastReceiver receiver, IntentFilter filter);
    public final native <T> T getSystemService(Class<T> service);
    public final native String getString(int id);
    public final native String getString(int id, Object... values);
    public final native int getColor(int id);
}
