package android.hardware.display;

import org.jetbrains.annotations.Nullable;

public final class DisplayManager {
    private DisplayManager() {}
    public native void registerDisplayListener(DisplayListener listener, @Nullable android.os.Handler handler);
    public native void unregisterDisplayListener(DisplayListener listener);
    public interface DisplayListener {
        void onDisplayAdded(int display);
        void onDisplayRemoved(int display);
        void onDisplayChanged(int display);
    }
}
