package android.view;

import org.jetbrains.annotations.Nullable;

public class View {
    public static final int VISIBLE = 0;
    public static final int GONE = 8;
    public static final int ACCESSIBILITY_LIVE_REGION_NONE = 0;
    public static final int ACCESSIBILITY_LIVE_REGION_POLITE = 1;
    public native int getAccessibilityLiveRegion();
    public native void setAccessibilityLiveRegion(int mode);
    public View(android.content.Context context) {}
    public View(android.content.Context context, @Nullable android.util.AttributeSet attributes) {}
    public static class MeasureSpec { public static native int getSize(int spec); }
    public interface OnClickListener { void onClick(View view); }
    public final native int getWidth();
    public final native int getHeight();
    public native android.content.res.Resources getResources();
    public native int getVisibility();
    public native void setVisibility(int visibility);
    public native boolean isEnabled();
    public native void setEnabled(boolean enabled);
    public native boolean hasFocus();
    public native @Nullable CharSequence getContentDescription();
    public native void setContentDescription(@Nullable CharSequence text);
    public native void setOnClickListener(@Nullable OnClickListener listener);
    public native void invalidate();
    public native void setPadding(int left, int top, int right, int bottom);
    public native @Nullable Display getDisplay();
    protected native void onMeasure(int widthSpec, int heightSpec);
    protected final native void setMeasuredDimension(int width, int height);
    protected native void onDraw(android.graphics.Canvas canvas);
}
