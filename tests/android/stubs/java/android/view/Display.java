package android.view;

public final class Display { private Display() {} public native int getRotation(); }
