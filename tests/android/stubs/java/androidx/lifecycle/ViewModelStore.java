package androidx.lifecycle;

public class ViewModelStore { public ViewModelStore() {} }
