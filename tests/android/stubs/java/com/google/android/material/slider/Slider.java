package com.google.android.material.slider;

public class Slider extends BaseSlider<Slider, Slider.OnChangeListener, Slider.OnSliderTouchListener> {
    public Slider(android.content.Context context) { super(context); }
    public interface OnChangeListener extends BaseOnChangeListener<Slider> { void onValueChange(Slider slider, float value, boolean fromUser); }
    public interface OnSliderTouchListener extends BaseOnSliderTouchListener<Slider> {}
}
