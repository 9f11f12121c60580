package com.google.android.material.slider;

abstract class BaseSlider<S extends BaseSlider<S, L, T>, L extends BaseOnChangeListener<S>, T extends BaseOnSliderTouchListener<S>> extends android.view.View {
    BaseSlider(android.content.Context context) { super(context); }
    public void addOnChangeListener(L listener) {}
}
